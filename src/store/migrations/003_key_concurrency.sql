-- Executions of a key that run at once; NULL leaves what its tenant may have.
ALTER TABLE keys ADD COLUMN concurrency INTEGER CHECK (concurrency > 0);
