# shellcheck shell=sh
# Every page has a title and every link leads to a file.
set -eu
cd "$1"
failures=0 links=0 pages=0
for page in *.html; do
  pages=$((pages + 1))
  grep -q '<title>..*</title>' "$page" || { echo "FAIL $page: no title"; failures=$((failures + 1)); }
  for target in $(grep -o '\(href\|src\)="[^"]*"' "$page" | cut -d '"' -f 2); do
    links=$((links + 1))
    [ -e "$target" ] || { echo "FAIL $page: dead link $target"; failures=$((failures + 1)); }
  done
done
for file in assets/*.gz; do
  gzip -dc "$file" | cmp -s - "${file%.gz}" || { echo "FAIL $file is not ${file%.gz}"; failures=$((failures + 1)); }
done
echo "site: $pages pages, $links links, $failures failures"
[ "$failures" = 0 ] && [ "$pages" = 3 ]
