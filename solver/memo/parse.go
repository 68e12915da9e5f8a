package memo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// Kinds of stores, as they are written.
const (
	TypeLocal    = "local"
	TypeRegistry = "registry"
	TypeS3       = "s3"
)

// Config says which stores there are. Its zero value is no memo.
type Config struct {
	// Stores are asked in order, and what one has is kept in those before it.
	Stores []StoreConfig
}

// StoreConfig describes one store.
type StoreConfig struct {
	// Type is one of the Type constants.
	Type string
	// Path is the directory of a local store; empty is the user's.
	Path string
	// Registry is for TypeRegistry, S3 for TypeS3.
	Registry RegistryConfig
	S3       S3Config
	// ReadOnly keeps records of this run out of it.
	ReadOnly bool
	// TTL is how old a record may be; 0 is any age.
	TTL time.Duration
}

// Parse reads how users write a memo, at `--memo` or in ZLAYER_MEMO; several values
// are read as if joined with "+":
//
//	off
//	local[=DIRECTORY]
//	registry=REPOSITORY
//	s3=bucket=NAME,region=…,endpoint_url=…,prefix=…,use_path_style=…,anonymous=…
//	local+registry=REPOSITORY
//
// Each store takes ro, rw, ttl=DURATION and timeout=DURATION after a comma, a
// registry insecure as well. Nothing is looked at but the text; an error names the
// part that is wrong.
func Parse(values ...string) (Config, error) {
	var c Config
	off := false
	for _, value := range values {
		for _, part := range splitStores(value) {
			if part == "off" {
				off = true
				continue
			}
			s, err := parseStore(part)
			if err != nil {
				return Config{}, fmt.Errorf("memo %q: %w", s.label(part), err)
			}
			if slices.ContainsFunc(c.Stores, s.same) {
				return Config{}, fmt.Errorf("memo %q: it is named twice", s.label(part))
			}
			c.Stores = append(c.Stores, s)
		}
	}
	if off && len(c.Stores) > 0 {
		return Config{}, errors.New(`memo "off": it cannot be joined with a store`)
	}
	return c, nil
}

// splitStores splits at those signs only that a kind of store follows: names of
// directories and prefixes may have a "+".
func splitStores(value string) []string {
	var parts []string
	for start, i := 0, 0; ; i++ {
		if i == len(value) {
			return append(parts, value[start:])
		}
		if value[i] == '+' && startsStore(value[i+1:]) {
			parts = append(parts, value[start:i])
			start = i + 1
		}
	}
}

func startsStore(s string) bool {
	for _, t := range []string{"off", TypeLocal, TypeRegistry, TypeS3} {
		if rest, ok := strings.CutPrefix(s, t); ok && (rest == "" || strings.ContainsRune("=,+", rune(rest[0]))) {
			return true
		}
	}
	return false
}

func parseStore(part string) (StoreConfig, error) {
	kind, rest, given := part, "", false
	if i := strings.IndexAny(part, "=,"); i >= 0 {
		kind, rest, given = part[:i], part[i+1:], part[i] == '='
		if part[i] == ',' {
			rest = part[i:]
		}
	}
	s := StoreConfig{Type: kind}
	options := strings.Split(rest, ",")
	switch {
	case kind == TypeLocal:
		s.Path, options = options[0], options[1:]
		if given && s.Path == "" {
			return s, errors.New("the directory is missing: local=DIRECTORY, or just local")
		}
	case kind == TypeRegistry:
		s.Registry.Repository, options = options[0], options[1:]
	case kind == TypeS3 && !given:
		return s, errors.New("the bucket is missing: s3=bucket=NAME")
	case kind == TypeS3:
	case kind == "":
		return s, fmt.Errorf("a store is missing: %s", storeForms)
	default:
		return s, fmt.Errorf("there is no %q: %s", kind, storeForms)
	}
	for _, o := range options {
		if err := s.set(o); err != nil {
			return s, err
		}
	}
	return s, s.check()
}

// label is what of a store's text names it in errors. The rest may have something in
// it that was not meant to be there, such as a password.
func (s *StoreConfig) label(part string) string {
	if s.Type == TypeS3 {
		return s.Type
	}
	label, _, _ := strings.Cut(part, ",")
	return label
}

const storeForms = "use off, local, registry=REPOSITORY or s3=bucket=NAME, joined with +"

// set applies one option.
func (s *StoreConfig) set(option string) error {
	key, value, given := strings.Cut(option, "=")
	if err := knownOption(s.Type, key); err != nil {
		return err
	}
	switch key {
	case "ro", "rw", "insecure":
		on, err := parseSwitch(key, value, given)
		if err != nil {
			return err
		}
		switch key {
		case "ro":
			s.ReadOnly = on
		case "rw":
			s.ReadOnly = !on
		case "insecure":
			s.Registry.Insecure = on
		}
		return nil
	case "ttl":
		d, err := parseDuration(key, value)
		s.TTL = d
		return err
	case "timeout":
		d, err := parseDuration(key, value)
		s.Registry.Timeout, s.S3.Timeout = d, d
		if s.Type == TypeS3 {
			s.Registry.Timeout = 0
		} else {
			s.S3.Timeout = 0
		}
		return err
	}
	return s.S3.set(key, value, given)
}

// knownOption tells whether stores of the kind have the option. Secrets are options
// elsewhere, so they get an answer of their own; what was given is in no error.
func knownOption(kind, key string) error {
	options := []string{"ro", "rw", "ttl"}
	switch kind {
	case TypeRegistry:
		options = append(options, "timeout", "insecure")
	case TypeS3:
		options = append(options, "timeout", "bucket", "region", "endpoint_url", "prefix", "use_path_style", "anonymous")
	}
	switch {
	case slices.Contains(options, key):
		return nil
	case key == "":
		return errors.New("there is an empty option")
	case strings.Contains(key, "secret") || strings.Contains(key, "access_key") || strings.Contains(key, "token") || strings.Contains(key, "password"):
		return fmt.Errorf("credentials are not taken here, where every process can see them: use AWS's environment variables and files, or docker's config instead of %q", key)
	}
	return fmt.Errorf("option %q is unknown for %s: it has %s", key, kind, strings.Join(options, ", "))
}

func parseSwitch(key, value string, given bool) (bool, error) {
	if !given {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s=%s: use true or false", key, value)
	}
	return on, nil
}

// parseDuration reads a duration as Go writes it, and days.
func parseDuration(key, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if days, ok := strings.CutSuffix(value, "d"); err != nil && ok {
		var n int
		n, err = strconv.Atoi(days)
		if d = time.Duration(n) * 24 * time.Hour; d/(24*time.Hour) != time.Duration(n) {
			err = strconv.ErrRange
		}
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s=%s: use a duration like 30s, 168h or 7d", key, value)
	}
	return d, nil
}

func (s *StoreConfig) check() error {
	switch s.Type {
	case TypeRegistry:
		_, err := s.Registry.repository()
		return err
	case TypeS3:
		return s.S3.check()
	}
	return nil
}

// same tells whether o is the same place.
func (s *StoreConfig) same(o StoreConfig) bool {
	return s.Type == o.Type && s.Path == o.Path && s.Registry.Repository == o.Registry.Repository &&
		s.S3.Bucket == o.S3.Bucket && s.S3.Prefix == o.S3.Prefix && s.S3.Endpoint == o.S3.Endpoint
}

// repository gives the name that records are tags of.
func (c *RegistryConfig) repository() (name.Repository, error) {
	var opts []name.Option
	if c.Insecure {
		opts = append(opts, name.Insecure)
	}
	if c.Repository == "" {
		return name.Repository{}, errors.New("the repository is missing: registry=HOST/NAME")
	}
	repo, err := name.NewRepository(c.Repository, opts...)
	if err != nil {
		return repo, fmt.Errorf("%q is no repository (it has neither tag nor digest): %w", c.Repository, err)
	}
	return repo, nil
}
