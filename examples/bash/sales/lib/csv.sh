# Simple CSV files: a head line, then fields without commas or quotes in them.

# Rows of a file, without its head.
csv_rows() {
    tail -n +2 -- "$1"
}

csv_count() {
    csv_rows "$1" | wc -l
}

# Sums the numbers of column $3 for each value of column $2.
csv_sum_by() {
    csv_rows "$1" | gawk -F, -v key="$2" -v number="$3" '
        { sum[$key] += $number }
        END { for (value in sum) print value, sum[value] }' | sort
}
