-- What is made of findings in the sources of its programs; NULL leaves it to the request.
ALTER TABLE keys ADD COLUMN lint TEXT CHECK (lint IN ('advise', 'block'));
