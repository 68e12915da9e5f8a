package wasm

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zlayer-dev/zlayer/internal/lazyregexp"
)

// runFields are the fields of provenance (SLSA 1 and 0.2) that differ between equal builds: which run
// it was, when, the digests of operations in which the ids of a session are, and the layers of steps,
// which are there if the daemon has once made some of them for an image.
var runFields = []string{
	"invocationId", "startedOn", "finishedOn", "buildInvocationID", "buildInvocationId", "buildStartedOn", "buildFinishedOn", "digestMapping", "layers",
}

// sessionName is a local directory as one session with a daemon calls it.
var sessionName = lazyregexp.New(`^(local://)?(.+)-[0-9a-f]{20}$`)

// settle takes out of provenance what is of one run, and writes it anew with keys in order. Other
// predicates stay as they are.
func settle(predicateType string, raw json.RawMessage) (json.RawMessage, error) {
	if !strings.HasPrefix(predicateType, "https://slsa.dev/provenance/") {
		return raw, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var predicate any
	if err := d.Decode(&predicate); err != nil {
		return nil, err
	}
	s := settler{names: map[string]string{}, used: map[string]int{}}
	// Operations go first: their order is the build's, that of the other lists is the names'.
	walkJSON(predicate, func(key string, v any) any { return s.rename(key == "identifier", v) })
	walkJSON(predicate, func(key string, v any) any { return s.rename(key == "name", v) })
	walkJSON(predicate, sortLocals)
	return json.Marshal(predicate)
}

// settler gives local directories names that do not depend on the session.
type settler struct {
	names map[string]string
	used  map[string]int
}

func (s *settler) rename(is bool, v any) any {
	text, ok := v.(string)
	m := sessionName().FindStringSubmatch(text)
	if !is || !ok || m == nil {
		return v
	}
	session := strings.TrimPrefix(text, "local://")
	if s.names[session] == "" {
		s.used[m[2]]++
		s.names[session] = m[2]
		if n := s.used[m[2]]; n > 1 {
			s.names[session] += "-" + strconv.Itoa(n)
		}
	}
	return m[1] + s.names[session]
}

// sortLocals puts a list of local directories into the order of their new names.
func sortLocals(key string, v any) any {
	list, ok := v.([]any)
	if key != "locals" || !ok {
		return v
	}
	name := func(v any) string {
		m, _ := v.(map[string]any)
		n, _ := m["name"].(string)
		return n
	}
	slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(name(a), name(b)) })
	return list
}

// walkJSON replaces the values of a document, those of objects in the order of their keys, and takes
// out what is of one run.
func walkJSON(v any, change func(key string, v any) any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range runFields {
			delete(v, k)
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			v[k] = change(k, v[k])
			walkJSON(v[k], change)
		}
	case []any:
		for _, e := range v {
			walkJSON(e, change)
		}
	}
}
