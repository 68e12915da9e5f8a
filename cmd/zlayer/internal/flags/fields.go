package flags

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/buildkit/util/suggest"
)

// field is one element of a comma-separated value: key=value, or a bare word.
type field struct {
	key, value string
	bare       bool
}

// fields splits one line of CSV, so that a value which holds a comma can be
// written in double quotes around the whole field. Keys are lower-cased but for
// the annotation keys, whose case counts.
func fields(s string) ([]field, error) {
	r := csv.NewReader(strings.NewReader(s))
	record, err := r.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the value is empty")
	case err != nil:
		return nil, errors.New("not comma-separated key=value fields: " + csvMessage(err))
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the value must be one line")
	}
	out := make([]field, 0, len(record))
	seen := map[string]bool{}
	for _, part := range record {
		f := newField(part)
		switch {
		case f.key == "":
			return nil, fmt.Errorf("field %q has no key: write key=value", part)
		case seen[f.key]:
			return nil, fmt.Errorf("%s is given twice", f.key)
		}
		seen[f.key] = true
		out = append(out, f)
	}
	return out, nil
}

func newField(part string) field {
	k, v, ok := strings.Cut(part, "=")
	k = strings.TrimSpace(k)
	if !strings.HasPrefix(k, "annotation") {
		k = strings.ToLower(k)
	}
	return field{key: k, value: v, bare: !ok}
}

// csvMessage takes the line and column out of the reader's messages: there is
// but one line.
func csvMessage(err error) string {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// attrs makes a map of fields that must all be key=value.
func attrs(list []field) (map[string]string, error) {
	out := make(map[string]string, len(list))
	for _, f := range list {
		if f.bare {
			return nil, fmt.Errorf("field %q has no value: write %s=...", f.key, f.key)
		}
		out[f.key] = f.value
	}
	return out, nil
}

// unknown says that got is none of known, and which of them it looks like.
func unknown(what, got string, known []string) error {
	if s, ok := suggest.Search(got, known, false); ok {
		return fmt.Errorf("unknown %s %q, did you mean %q?", what, got, s)
	}
	return fmt.Errorf("unknown %s %q: use %s", what, got, oneOf(known))
}

// oneOf lists words as "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func parseBool(key, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%s: use true or false", key, value)
	}
	return b, nil
}
