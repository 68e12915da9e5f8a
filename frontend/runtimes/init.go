package runtimes

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
)

// Format is a kind of build file.
type Format string

// The kinds of build file that Init writes.
const (
	Dockerfile Format = "dockerfile"
	ZImagefile Format = "zimagefile"
)

// Init writes the template of a runtime, rendered for the project in a directory, as a build file
// for the user to own: with the notes of the rendering as comments, and in the words of the format.
// The build file builds the same image as the runtime does. Errors are those of [Render], and one
// for a format that does not exist.
func Init(r Runtime, dir fs.FS, format Format) ([]byte, error) {
	if format != Dockerfile && format != ZImagefile {
		return nil, fmt.Errorf("writing a build file: there is no format %q, only %s and %s", format, Dockerfile, ZImagefile)
	}
	t, err := Render(r, dir)
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	title, body := cutTitle(t.Dockerfile)
	head.Write(title)
	fmt.Fprintf(&head, "#\n# Made by zlayer init from the runtime %s. Change what you like: nothing writes it again.\n", r.Name)
	for _, n := range t.Notes {
		wrapComment(&head, n)
	}
	if r.OS == "linux" {
		wrapComment(&head, "list in .dockerignore what no build needs, such as .git and local settings: builds get faster, and secrets stay out of images")
	}
	head.WriteByte('\n')
	if format == Dockerfile {
		return append(append([]byte("# syntax=docker/dockerfile:1\n\n"), head.Bytes()...), body...), nil
	}
	text, err := toYAML(body, t.OS)
	if err != nil {
		return nil, fmt.Errorf("writing a ZImagefile: %w", err)
	}
	return append(head.Bytes(), text...), nil
}

// cutTitle splits off the comment that a template begins with.
func cutTitle(text []byte) (title, body []byte) {
	title, body, _ = bytes.Cut(text, []byte("\n\n"))
	return append(bytes.Clone(title), '\n'), body
}

// wrapComment writes a sentence as an item of a list in a comment.
func wrapComment(out *bytes.Buffer, s string) {
	out.WriteString("#\n")
	line := "# -"
	for word := range strings.FieldsSeq(s) {
		if len(line)+1+len(word) > 100 && line != "#  " {
			out.WriteString(line + "\n")
			line = "#  "
		}
		line += " " + word
	}
	out.WriteString(line + "\n")
}
