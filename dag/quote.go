package dag

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// newlineArg is the build argument that holds a line feed, which no instruction of one
// line can say. It is that of ZImagefiles, so that both mean the same by a key.
const (
	newlineArg = "ZLAYER_NEWLINE"
	newlineRef = "${" + newlineArg + ":?}"
)

// plainWord is what needs no quotes anywhere in an instruction.
var plainWord = lazyregexp.New(`^[A-Za-z0-9_./:@%+,*?~][A-Za-z0-9_./:@%+,=*?~-]*$`)

// word writes a text as one word of an instruction in which nothing is expanded.
func word(s string) string {
	if plainWord().MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\', '$':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(newlineRef)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// words writes texts as the arguments of an instruction: as they are where none needs
// quotes, else as a JSON array of words, which may have spaces.
func words(list []string) string {
	plain := true
	quoted := make([]string, len(list))
	for i, s := range list {
		plain = plain && plainWord().MatchString(s)
		quoted[i] = word(s)
	}
	if plain {
		return strings.Join(list, " ")
	}
	return jsonList(quoted)
}

// jsonList writes texts as a JSON array, the form of arguments that nothing touches.
func jsonList(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	parts := make([]string, len(list))
	for i, s := range list {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(s) // strings can be encoded
		parts[i] = strings.TrimSuffix(b.String(), "\n")
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// flag writes a flag of an instruction. Flags are read before words are, and lose one
// layer of quotes.
func flag(name, value string) string {
	var b strings.Builder
	b.WriteString("--" + name + "=")
	for _, r := range value {
		if strings.ContainsRune("\\'\" \t\v\f\r", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// csvField writes a field of a flag that is a list.
func csvField(name, value string) string {
	f := name + "=" + word(value)
	if strings.ContainsAny(f, "\",\n\r") {
		f = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
	}
	return f
}
