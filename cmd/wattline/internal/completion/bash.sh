# wattline completion for bash: source <(wattline completion bash), or write it to
# ~/.local/share/bash-completion/completions/wattline
_wattline() {
  local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} answers
  answers=$("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1) || return
  [ "$cur" = = ] && cur=
  if [ "$answers" = :files ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
    return
  fi
  # --flag=value is three words here, and only the value is replaced.
  case ${COMP_WORDS[COMP_CWORD]}:${COMP_WORDS[COMP_CWORD - 1]} in
  =:* | *:=) answers=$(cut -d = -f 2- <<<"$answers") ;;
  esac
  COMPREPLY=($answers)
}
complete -F _wattline wattline
