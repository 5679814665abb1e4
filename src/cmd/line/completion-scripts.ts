/**
 * Completion scripts. Each asks banger itself, so that a new banger needs no new script. None evaluates a word that is
 * typed, or a candidate: that is why they are by hand, see complete.ts.
 */

import { usageError } from "./usage.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** @throws BangerError USAGE */
export function readShell(text: string): Shell {
  const shell = SHELLS.find((one) => one === text);
  if (shell === undefined)
    throw usageError(`the shell is one of ${SHELLS.join(", ")}, not ${JSON.stringify(text)}`, ["completion"]);
  return shell;
}

const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# banger completion for bash
_banger() {
  local line cur=\${COMP_WORDS[COMP_CWORD]}
  [[ $cur == "=" ]] && cur=
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == ":files" ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
    elif [[ -n $line ]]; then
      COMPREPLY+=("$line")
    fi
  done < <("\${COMP_WORDS[0]}" internal complete bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
  [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *: ]] && compopt +o filenames -o nospace 2>/dev/null
  return 0
}
complete -F _banger banger
`,
  zsh: `#compdef banger
# banger completion for zsh
_banger() {
  local line value files=0
  local -a items suffix
  while IFS= read -r line; do
    if [[ $line == ":files" ]]; then
      files=1
    elif [[ -n $line ]]; then
      value=\${line%%$'\\t'*}
      [[ $value == *: ]] && suffix=(-S '')
      items+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
    fi
  done < <("\${words[1]}" internal complete zsh -- "\${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)
  (( \${#items} )) && _describe banger items "\${suffix[@]}"
  (( files )) && _files
  return 0
}
if [[ \${funcstack[1]} == _banger ]]; then
  _banger "$@"
else
  compdef _banger banger
fi
`,
  fish: `# banger completion for fish
function __banger_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] internal complete fish -- $words[2..-1] 2>/dev/null </dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c banger -f -a '(__banger_complete)'
`,
};

export function completionScript(shell: Shell): string {
  return SCRIPTS[shell];
}
