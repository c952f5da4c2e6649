CREATE TABLE sales (region TEXT NOT NULL, amount INTEGER NOT NULL);

CREATE VIEW by_region AS
SELECT region, count(*) AS sales, sum(amount) AS amount FROM sales GROUP BY region ORDER BY region;
