# Completes plan files and the IDs of jobs, and other files where there are none.
_batchplan_words() {
    local -a line found
    local IFS=$'\n'
    line=("${(@Q)${(z)LBUFFER}}")
    [[ $LBUFFER == *' ' ]] && line+=('')
    found=(${(f)"$(batchplan complete -- "${(@)line[2,-1]}" 2>/dev/null)"})
    if (( ${#found} )); then
        found=("${(@)found/$'\t'/:}")
        _describe 'batchplan' found
    else
        _files
    fi
}
