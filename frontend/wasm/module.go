package wasm

import (
	"errors"
	"fmt"
)

// Sections of modules, by number.
const (
	customSection = 0
	importSection = 2
	exportSection = 7
)

var moduleSections = []string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data",
	"data count", "tag",
}

// moduleOrder is the place of each section among the others; custom ones may stand anywhere.
var moduleOrder = [...]int{0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 11, 6}

// readModule reads the sections of a module. info may be nil: then only the framing is checked.
func readModule(r *reader, info *Info) error {
	last := 0
	for !r.done() {
		id, c, err := r.section()
		if err != nil {
			return err
		}
		if int(id) >= len(moduleSections) {
			return fmt.Errorf("unknown section %d", id)
		}
		if o := moduleOrder[id]; id != customSection {
			if o <= last {
				return fmt.Errorf("section %q is twice or out of order", moduleSections[id])
			}
			last = o
		}
		if err := moduleSection(id, c, info); err != nil {
			r.at = c.at
			return fmt.Errorf("section %q: %w", moduleSections[id], err)
		}
		r.at = c.end
	}
	return nil
}

func moduleSection(id byte, c *reader, info *Info) error {
	s := Section{Name: moduleSections[id], Size: c.end - c.at}
	if id == customSection {
		name, err := c.name()
		if err != nil {
			return err
		}
		s.Name += " " + name
	}
	if info == nil {
		return nil
	}
	info.Sections = append(info.Sections, s)
	switch id {
	case importSection:
		if err := c.vec(func() error { return moduleImport(c, info) }); err != nil {
			return err
		}
		return c.whole()
	case exportSection:
		if err := c.vec(func() error { return moduleExport(c, info) }); err != nil {
			return err
		}
		return c.whole()
	}
	return nil
}

var moduleExterns = []string{"func", "table", "memory", "global", "tag"}

func moduleExport(r *reader, info *Info) error {
	name, err := r.name()
	if err != nil {
		return err
	}
	kind, err := r.byte()
	if err != nil {
		return err
	}
	if int(kind) >= len(moduleExterns) {
		return fmt.Errorf("export %q is of unknown kind %d", name, kind)
	}
	info.Exports = append(info.Exports, Extern{Name: name, Kind: moduleExterns[kind]})
	_, err = r.u32()
	return err
}

func moduleImport(r *reader, info *Info) error {
	module, err := r.name()
	if err != nil {
		return err
	}
	name, err := r.name()
	if err != nil {
		return err
	}
	kind, err := r.byte()
	if err != nil {
		return err
	}
	switch kind {
	case 0:
		_, err = r.u32()
	case 1:
		if err = valueType(r); err == nil {
			err = limits(r)
		}
	case 2:
		err = limits(r)
	case 3:
		if err = valueType(r); err == nil {
			_, err = r.byte()
		}
	case 4:
		if _, err = r.byte(); err == nil {
			_, err = r.u32()
		}
	default:
		err = fmt.Errorf("import %q is of unknown kind %d", name, kind)
	}
	if err != nil {
		return err
	}
	info.Imports = append(info.Imports, Extern{Module: module, Name: name, Kind: moduleExterns[kind]})
	return nil
}

// valueType skips the type of a value; references can name their heap type.
func valueType(r *reader) error {
	b, err := r.byte()
	if err != nil {
		return err
	}
	switch {
	case b == 0x63 || b == 0x64:
		return r.s33()
	case b >= 0x40 && b < 0x80:
		return nil
	}
	return fmt.Errorf("unknown type 0x%02x", b)
}

// limits skips the limits of a table or memory.
func limits(r *reader) error {
	const hasMax, wide, pageSize = 1, 4, 8
	flags, err := r.byte()
	if err != nil {
		return err
	}
	if flags > 15 {
		return errors.New("unknown kind of limits")
	}
	bits := 32
	if flags&wide != 0 {
		bits = 64
	}
	if _, err := r.unsigned(bits); err != nil {
		return err
	}
	if flags&hasMax != 0 {
		if _, err := r.unsigned(bits); err != nil {
			return err
		}
	}
	if flags&pageSize != 0 {
		_, err = r.u32()
	}
	return err
}
