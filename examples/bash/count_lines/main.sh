# Counts the lines of the data files, and leaves summary.json. Runs with "script": true, which gives it save_result.
set -euo pipefail
shopt -s nullglob

total=0
summary='{}'
for file in *.csv *.json; do
    lines=$(wc -l < "$file")
    total=$((total + lines))
    summary=$(jq --arg file "$file" --argjson lines "$lines" '. + {($file): $lines}' <<< "$summary")
done
jq -n --argjson files "$summary" --argjson total "$total" '{files: $files, total: $total}' > summary.json

save_result total "$total"
save_result files "$summary"
echo "$total lines"
