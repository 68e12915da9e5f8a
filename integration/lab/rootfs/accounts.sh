#!/bin/sh
# adduser, addgroup, deluser, delgroup with busybox's options: Debian's busybox is built without them.
set -e
self=${0##*/}
die() { echo "$self: $*" >&2; exit 1; }

# free FILE LOW HIGH: the first number in the range that no line of FILE has in its third field
free() {
  n=$2
  while grep -q "^[^:]*:[^:]*:$n:" "$1"; do
    n=$((n + 1))
    [ "$n" -le "$3" ] || die "no free number between $2 and $3"
  done
  echo "$n"
}

# has FILE NAME
has() { grep -q "^$2:" "$1"; }

# join USER GROUP: puts the user into the group's list of members
join() {
  has /etc/group "$2" || die "unknown group $2"
  sed -i "s/^\($2:[^:]*:[^:]*:\)\(..*\)$/\1\2,$1/;s/^\($2:[^:]*:[^:]*:\)$/\1$1/" /etc/group
}

addgroup() {
  gid= system=
  while getopts g:S o; do
    case $o in g) gid=$OPTARG ;; S) system=1 ;; *) die "usage: addgroup [-g GID] [-S] [USER] GROUP" ;; esac
  done
  shift $((OPTIND - 1))
  case $# in
    1) ;;
    2) join "$1" "$2"; return ;;
    *) die "usage: addgroup [-g GID] [-S] [USER] GROUP" ;;
  esac
  if has /etc/group "$1"; then die "group '$1' in use"; fi
  if [ -z "$gid" ]; then
    if [ -n "$system" ]; then gid=$(free /etc/group 101 999); else gid=$(free /etc/group 1000 60000); fi
  fi
  echo "$1:x:$gid:" >>/etc/group
}

adduser() {
  home= gecos='Linux User,,,' shell=/bin/sh primary= system= nohome= uid=
  while getopts h:g:s:G:u:k:SDH o; do
    case $o in
      h) home=$OPTARG ;; g) gecos=$OPTARG ;; s) shell=$OPTARG ;; G) primary=$OPTARG ;; u) uid=$OPTARG ;;
      S) system=1 ;; H) nohome=1 ;; D | k) ;;
      *) die "usage: adduser [-h DIR] [-g GECOS] [-s SHELL] [-G GRP] [-S] [-D] [-H] [-u UID] USER [GROUP]" ;;
    esac
  done
  shift $((OPTIND - 1))
  case $# in
    1) ;;
    2) join "$1" "$2"; return ;;
    *) die "usage: adduser [options] USER [GROUP]" ;;
  esac
  if has /etc/passwd "$1"; then die "user '$1' in use"; fi
  if [ -z "$uid" ]; then
    if [ -n "$system" ]; then uid=$(free /etc/passwd 100 999); else uid=$(free /etc/passwd 1000 60000); fi
  fi
  if [ -n "$primary" ]; then
    has /etc/group "$primary" || die "unknown group $primary"
    gid=$(sed -n "s/^$primary:[^:]*:\([0-9]*\):.*/\1/p" /etc/group)
  elif [ -n "$system" ]; then
    gid=65534
  else
    gid=$uid
    has /etc/group "$1" || echo "$1:x:$gid:" >>/etc/group
  fi
  [ -n "$home" ] || home=/home/$1
  echo "$1:x:$uid:$gid:$gecos:$home:$shell" >>/etc/passwd
  echo "$1:!:19000:0:99999:7:::" >>/etc/shadow
  if [ -z "$nohome" ] && [ ! -d "$home" ]; then
    mkdir -p "$home"
    chown "$uid:$gid" "$home"
  fi
}

# drop NAME FILE...: removes the lines of NAME
drop() {
  name=$1
  shift
  has "$1" "$name" || die "unknown name $name"
  sed -i "/^$name:/d" "$@"
}

case $self in
  addgroup) addgroup "$@" ;;
  adduser) adduser "$@" ;;
  deluser) drop "$1" /etc/passwd /etc/shadow ;;
  delgroup) drop "$1" /etc/group ;;
  *) die "call it by one of the names adduser, addgroup, deluser, delgroup" ;;
esac
