# Both read lines of a name and a number.

report_table() {
    while read -r name total; do
        printf '%-8s %6d\n' "$name" "$total"
    done
}

report_json() {
    jq --raw-input --slurp 'split("\n") | map(select(. != "") | split(" ") | {(.[0]): (.[1] | tonumber)}) | add'
}
