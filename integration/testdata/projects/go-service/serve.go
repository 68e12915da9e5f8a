package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/google/shlex"
)

// serve answers each line of r with a line on w.
func serve(r io.Reader, w io.Writer) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if _, err := fmt.Fprintln(w, answer(lines.Text())); err != nil {
			return err
		}
	}
	return lines.Err()
}

func answer(line string) string {
	words, err := shlex.Split(line)
	if err != nil || len(words) == 0 {
		return "what?"
	}
	switch words[0] {
	case "say":
		return strings.Join(words[1:], " ")
	case "version":
		return version
	}
	return "what?"
}
