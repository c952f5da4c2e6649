# Read by bash before a script (BASH_ENV), for scripts that run with "script": true: functions for results and files, and
# the data as variables. JSON is jq's work; `parameters` and `input_data` are JSON texts, as in
#
#     name=$(jq -r .name <<< "$parameters")
unset BASH_ENV

# save_result KEY [VALUE]: puts a value, or else standard input, into the results. What is no JSON is saved as a text.
save_result() {
    if [[ $# -lt 1 || $# -gt 2 || -z $1 || ${#1} -gt 256 ]]; then
        echo "save_result: usage: save_result KEY [VALUE], with a key of 1 to 256 characters" >&2
        return 2
    fi
    # NaN is JSON to jq only.
    local line='def value: . as $text | try (fromjson | if tojson == "null" and ($text | test("nan"; "i")) then $text else . end) catch $text;
        {save: {key: $key, value: (rtrimstr("\n") | value)}}'
    if [[ $# -eq 2 ]]; then printf '%s' "$2"; else cat; fi | jq -cRs --arg key "$1" "$line" >&"$EXECBOX_RESULT_FD"
}

# load_file NAME: writes a file of the project to standard output.
load_file() {
    if [[ $# -ne 1 ]]; then
        echo "load_file: usage: load_file NAME" >&2
        return 2
    fi
    local file=$1
    [[ $file == /* ]] || file=$workspace/$file
    if [[ ! -f $file ]]; then
        local IFS=,
        echo "load_file: there is no file '$1'; uploaded files: ${uploaded_files[*]:-none}" >&2
        return 1
    fi
    cat -- "$file"
}

# save_file NAME [CONTENT]: writes a text, or else standard input, to a file that comes back as an artifact.
save_file() {
    if [[ $# -lt 1 || $# -gt 2 ]]; then
        echo "save_file: usage: save_file NAME [CONTENT]" >&2
        return 2
    fi
    local file=$1
    [[ $file == /* ]] || file=$workspace/$file
    mkdir -p -- "${file%/*}" || return
    if [[ $# -eq 2 ]]; then printf '%s\n' "$2"; else cat; fi > "$file"
}

mapfile -d '' uploaded_files < <(jq --raw-output0 '(.parameters // {} | tojson), (.input_data | tojson), .workspace, .uploaded_files[]' "$EXECBOX_INPUT")
parameters=${uploaded_files[0]}
input_data=${uploaded_files[1]}
workspace=${uploaded_files[2]}
uploaded_files=("${uploaded_files[@]:3}")
job_id=$EXECBOX_JOB_ID
