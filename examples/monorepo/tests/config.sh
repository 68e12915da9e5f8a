# shellcheck shell=sh
# Every setting has a value and every service its own port.
set -eu
cd "$1"
for file in web.conf api.conf worker.conf; do
  if grep -q '{{' "$file"; then echo "FAIL $file: a setting is left"; exit 1; fi
  if grep -q '=$' "$file"; then echo "FAIL $file: a setting is empty"; exit 1; fi
done
ports=$(sed -n 's/^port=//p' ./*.conf | sort | uniq -d)
[ -z "$ports" ] || { echo "FAIL two services on port $ports"; exit 1; }
echo "config: 3 files, 0 failures"
