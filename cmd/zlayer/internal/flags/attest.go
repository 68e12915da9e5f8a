package flags

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var attestTypes = []string{"sbom", "provenance"}

// ParseAttests reads the values of --attest, --sbom and --provenance into the
// form of [engine.Request]: a map from the type to its attributes. sbom and
// provenance are true, false or attributes; empty is not given. A type given
// twice is an error.
func ParseAttests(list []string, sbom, provenance string) (map[string]string, error) {
	out := map[string]string{}
	add := func(typ, attrs string) error {
		if _, ok := out[typ]; ok {
			return fmt.Errorf("%s is asked for twice: give --%s or --attest type=%s once", typ, typ, typ)
		}
		out[typ] = attrs
		return nil
	}
	for _, s := range list {
		typ, attrs, err := parseAttest(s)
		if err != nil {
			return nil, fmt.Errorf("--attest %q: %w", s, err)
		}
		if err := add(typ, attrs); err != nil {
			return nil, err
		}
	}
	for i, s := range []string{sbom, provenance} {
		if s == "" {
			continue
		}
		typ := attestTypes[i]
		attrs, err := shortAttest(s)
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", typ, s, err)
		}
		if err := add(typ, attrs); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// parseAttest reads type=TYPE[,KEY=VALUE...]; TYPE alone may stand in front.
func parseAttest(s string) (typ, rest string, err error) {
	list, err := fields(s)
	if err != nil {
		return "", "", err
	}
	if list[0].bare {
		list[0] = field{key: "type", value: list[0].key}
	}
	i := slices.IndexFunc(list, func(f field) bool { return f.key == "type" })
	if i < 0 {
		return "", "", errors.New("type= is missing: use " + oneOf(attestTypes))
	}
	typ = list[i].value
	if !slices.Contains(attestTypes, typ) {
		return "", "", unknown("type", typ, attestTypes)
	}
	rest, err = attestAttrs(slices.Delete(list, i, i+1))
	return typ, rest, err
}

// shortAttest reads the value of --sbom and --provenance.
func shortAttest(s string) (string, error) {
	if on, err := strconv.ParseBool(s); err == nil {
		if on {
			return "", nil
		}
		return "disabled=true", nil
	}
	list, err := fields(s)
	if err != nil {
		return "", err
	}
	return attestAttrs(list)
}

// attestAttrs writes attributes as one line of CSV.
func attestAttrs(list []field) (string, error) {
	record := make([]string, 0, len(list))
	for _, f := range list {
		if f.bare {
			return "", fmt.Errorf("field %q has no value: write true, false or KEY=VALUE", f.key)
		}
		if f.key == "disabled" {
			off, err := parseBool(f.key, f.value)
			if err != nil {
				return "", err
			}
			if !off {
				continue
			}
			f.value = "true"
		}
		record = append(record, f.key+"="+f.value)
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	if len(record) > 0 {
		if err := w.Write(record); err != nil {
			return "", err
		}
	}
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n"), w.Error()
}
