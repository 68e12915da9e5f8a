# shellcheck shell=sh
# The API's answers, as a client over http gets them.
set -eu
httpd -p 127.0.0.1:8081 -h /srv/api
expect() { # QUERY ANSWER
  got=$(wget -q -O - "http://127.0.0.1:8081/cgi-bin/items$1")
  [ "$got" = "$2" ] || { echo "FAIL items$1: got $got, want $2"; exit 1; }
}
expect '?tag=garden' '[{"id":3,"name":"spade","tag":"garden"},{"id":4,"name":"hose","tag":"garden"}]'
expect '?tag=kitchen' '[{"id":5,"name":"kettle","tag":"kitchen"}]'
expect '?tag=nothing' '[]'
[ "$(wget -q -O - http://127.0.0.1:8081/cgi-bin/items | grep -o '"id"' | wc -l)" = 5 ] || { echo "FAIL items: not 5"; exit 1; }
echo "api: 4 requests, 0 failures"
