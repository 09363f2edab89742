# Completes plan files and the IDs of jobs where these are wanted, and the rest with the function above.
_batchplan_words() {
    local cur=${COMP_WORDS[COMP_CWORD]} word
    local -a words=()
    if [[ $cur != -* ]]; then
        while IFS=$'\t' read -r word _; do
            words+=("$(printf '%q' "$word")")
        done < <(batchplan complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    fi
    if [ "${#words[@]}" = 0 ]; then
        _batchplan "$@"
        return
    fi
    COMPREPLY=("${words[@]}")
    # A folder is not the end of a path.
    if [ "${#words[@]}" = 1 ] && [[ ${words[0]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
    return 0
}

complete -F _batchplan_words -o nosort -o bashdefault -o default batchplan
