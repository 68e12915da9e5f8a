#!/bin/sh
# page.sh TITLE FILE: the first line is the heading, every other one a paragraph
set -e
heading=$(head -n1 "$2")
cat <<HTML
<!doctype html>
<title>$1: $heading</title>
<link rel=stylesheet href=assets/style/main.css>
<h1>$heading</h1>
HTML
tail -n +2 "$2" | sed -e '/^$/d' -e 's/.*/<p>&<\/p>/'
