.read schema.sql
.import --csv --skip 1 data/sales.csv sales
SELECT * FROM by_region;

.mode csv
.headers on
.output report.csv
SELECT * FROM by_region;
