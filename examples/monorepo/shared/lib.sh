# shellcheck shell=sh
# What the services and the build steps share.

# log MESSAGE...: one line with the name of the program
log() { echo "${0##*/}: $*" >&2; }

# setting FILE NAME: the value of a setting
setting() { sed -n "s/^$2=//p" "$1" | tail -n 1; }

# render_config DEFAULTS OVERRIDES TEMPLATE: the template with its {{NAME}} replaced by the settings,
# of which later files win; a name without a setting is an error
render_config() {
  awk '
    FNR == 1 { file++ }
    file < 3 { if (!/^#/ && (i = index($0, "="))) value[substr($0, 1, i - 1)] = substr($0, i + 1); next }
    {
      while (match($0, /\{\{[A-Z_]+\}\}/)) {
        name = substr($0, RSTART + 2, RLENGTH - 4)
        if (!(name in value)) { print FILENAME ":" FNR ": no setting " name >"/dev/stderr"; exit 1 }
        $0 = substr($0, 1, RSTART - 1) value[name] substr($0, RSTART + RLENGTH)
      }
      print
    }
  ' "$1" "$2" "$3"
}
