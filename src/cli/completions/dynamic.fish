# Adds plan files and the IDs of jobs.
complete -c batchplan -n 'not string match -q -- "-*" (commandline -ct)' -k -a '(batchplan complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
