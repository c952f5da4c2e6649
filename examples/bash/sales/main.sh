#!/usr/bin/env bash
# Sums up sales by region from a CSV file, and leaves summary.json.
set -euo pipefail

source lib/csv.sh
source lib/report.sh

file=data/sales.csv
echo "$(csv_count "$file") sales"
csv_sum_by "$file" 1 3 | tee totals.txt | report_table
report_json < totals.txt > summary.json
rm totals.txt
