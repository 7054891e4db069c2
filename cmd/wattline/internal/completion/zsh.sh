#compdef wattline
# wattline completion for zsh: write it to a file _wattline in a folder of $fpath, or source it after compinit.
_wattline() {
  local -a answers shown
  answers=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ ${answers[1]} == :files ]]; then
    _files
    return
  fi
  local a
  for a in "${answers[@]}"; do
    [[ -n $a ]] && shown+=("${${a%%$'\t'*}//:/\\:}:${a#*$'\t'}")
  done
  _describe wattline shown
}
if [[ ${funcstack[1]} == _wattline ]]; then
  _wattline "$@"
else
  compdef _wattline wattline
fi
