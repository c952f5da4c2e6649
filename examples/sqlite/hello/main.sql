SELECT 'Hello from SQLite';
