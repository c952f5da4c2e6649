-- Size of the workspace that an execution of it may ask for; NULL leaves the server's ceiling.
ALTER TABLE keys ADD COLUMN max_disk_bytes INTEGER CHECK (max_disk_bytes > 0);
