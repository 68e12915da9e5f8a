package flags

import (
	"errors"
	"fmt"

	"github.com/zlayer-dev/zlayer/engine"
)

// ParseSecret reads id=ID[,src=FILE|,env=NAME][,type=file|env], or a bare ID.
// With neither file nor variable the secret is the environment variable of that
// name if there is one, else the file of that name. lookup finds environment
// variables. Whether the file can be read is not checked.
func ParseSecret(s string, lookup func(string) (string, bool)) (engine.Secret, error) {
	list, err := fields(s)
	if err != nil {
		return engine.Secret{}, err
	}
	var (
		sec engine.Secret
		typ string
	)
	for _, f := range list {
		if f.bare {
			return engine.Secret{}, fmt.Errorf("field %q has no value: write id=ID,src=FILE or id=ID,env=NAME", f.key)
		}
		switch f.key {
		case "id":
			sec.ID = f.value
		case "src", "source":
			if sec.File != "" {
				return engine.Secret{}, errors.New("the source is given twice")
			}
			sec.File = f.value
		case "env":
			sec.Env = f.value
		case "type":
			typ = f.value
		default:
			return engine.Secret{}, unknown("field", f.key, []string{"id", "src", "env", "type"})
		}
	}
	if err := secretType(&sec, typ); err != nil {
		return engine.Secret{}, err
	}
	return sec, secretSource(&sec, lookup)
}

func secretType(sec *engine.Secret, typ string) error {
	switch typ {
	case "":
	case "file":
		if sec.Env != "" {
			return errors.New("type=file and env contradict each other: use src=FILE")
		}
	case "env":
		// docker's form type=env,src=NAME.
		if sec.Env == "" {
			sec.Env, sec.File = sec.File, ""
		}
		if sec.Env == "" {
			sec.Env = sec.ID
		}
	default:
		return unknown("type", typ, []string{"file", "env"})
	}
	return nil
}

func secretSource(sec *engine.Secret, lookup func(string) (string, bool)) error {
	switch {
	case sec.ID == "":
		return errors.New("id is missing: write id=ID,src=FILE or id=ID,env=NAME")
	case sec.File != "" && sec.Env != "":
		return errors.New("src and env contradict each other: give one of them")
	case sec.File != "" || sec.Env != "":
		return nil
	}
	if _, ok := lookup(sec.ID); ok {
		sec.Env = sec.ID
	} else {
		sec.File = sec.ID
	}
	return nil
}
