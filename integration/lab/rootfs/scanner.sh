#!/bin/sh
# An SBOM generator after BuildKit's SBOM scanning protocol: for each file system that it is given it
# writes one in-toto statement holding an SPDX document, which lists the regular files.
set -e

# scan DIR: writes the statement for the file system at DIR
scan() {
  name=$(basename "$1")
  (cd "$1" && find . -xdev -type f | sort | while read -r file; do sha1sum "$file"; done) |
    awk -v name="$name" '
      function quoted(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); gsub(/[\001-\037]/, "?", s); return "\"" s "\"" }
      BEGIN {
        printf "{\"_type\":\"https://in-toto.io/Statement/v0.1\",\"predicateType\":\"https://spdx.dev/Document\",\"predicate\":{"
        printf "\"spdxVersion\":\"SPDX-2.3\",\"dataLicense\":\"CC0-1.0\",\"SPDXID\":\"SPDXRef-DOCUMENT\",\"name\":%s,", quoted(name)
        printf "\"documentNamespace\":\"https://zlayer.dev/lab/%s\",", name
        printf "\"creationInfo\":{\"created\":\"2024-01-02T03:04:05Z\",\"creators\":[\"Tool: zlayer-lab-scanner\"]},\"files\":["
      }
      {
        sum = $1
        sub(/^[0-9a-f]*  \.\//, "")
        printf "%s{\"SPDXID\":\"SPDXRef-File-%d\",\"fileName\":%s,\"checksums\":[{\"algorithm\":\"SHA1\",\"checksumValue\":\"%s\"}]}", (NR > 1 ? "," : ""), NR, quoted($0), sum
      }
      END { print "]}}" }
    ' >"$BUILDKIT_SCAN_DESTINATION/$name.spdx.json"
}

scan "$BUILDKIT_SCAN_SOURCE"
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] && [ -d "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
  for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do
    scan "$extra"
  done
fi
