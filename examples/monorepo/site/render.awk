# Renders a small subset of Markdown into a layout: awk -f render.awk layout.html page.md
# Headings, paragraphs, lists, links, emphasis, code.

function inline(s,   a) {
  gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s)
  while (match(s, /`[^`]+`/))
    s = substr(s, 1, RSTART - 1) "<code>" substr(s, RSTART + 1, RLENGTH - 2) "</code>" substr(s, RSTART + RLENGTH)
  while (match(s, /\*\*[^*]+\*\*/))
    s = substr(s, 1, RSTART - 1) "<strong>" substr(s, RSTART + 2, RLENGTH - 4) "</strong>" substr(s, RSTART + RLENGTH)
  while (match(s, /\[[^\]]+\]\([^)]+\)/)) {
    split(substr(s, RSTART + 1, RLENGTH - 2), a, /\]\(/)
    s = substr(s, 1, RSTART - 1) "<a href=\"" a[2] "\">" a[1] "</a>" substr(s, RSTART + RLENGTH)
  }
  return s
}

function close_block() {
  if (block != "") body = body "</" block ">\n"
  block = ""
}

function open_block(name) {
  if (block == name) return
  close_block()
  block = name
  body = body "<" name ">\n"
}

FNR == 1 { file++ }
file == 1 { layout = layout $0 "\n"; next }

/^#+ / {
  close_block()
  level = index($0, " ") - 1
  text = substr($0, level + 2)
  if (level == 1 && title == "") title = text
  body = body "<h" level ">" inline(text) "</h" level ">\n"
  next
}
/^- / { open_block("ul"); body = body "<li>" inline(substr($0, 3)) "</li>\n"; next }
/^$/ { close_block(); next }
{ open_block("p"); body = body inline($0) "\n" }

END {
  close_block()
  if (title == "") { print FILENAME ": no title" >"/dev/stderr"; exit 1 }
  i = index(layout, "{{TITLE}}")
  layout = substr(layout, 1, i - 1) title substr(layout, i + 9)
  i = index(layout, "{{BODY}}")
  printf "%s", substr(layout, 1, i - 1) body substr(layout, i + 9)
}
