set -e
mkdir -p "$2"
for f in *.txt; do
	key=$(sha256sum < "$f" | cut -d' ' -f1)
	if test -e "$1/$key"; then
		echo "reused $f"
	else
		echo "compiled $f"
		tr a-z A-Z < "$f" > /tmp/object && cp /tmp/object "$1/$key"
	fi
	cp "$1/$key" "$2/${f%.txt}.o"
done
