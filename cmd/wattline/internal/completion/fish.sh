# wattline completion for fish: write it to ~/.config/fish/completions/wattline.fish
function __wattline_answers
    set -l words (commandline -opc) (commandline -ct)
    set -l answers ($words[1] complete -- $words[2..-1] 2>/dev/null)
    if test "$answers[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answers
    end
end
complete -c wattline -f -a '(__wattline_answers)'
