package wasm

import (
	"errors"
	"fmt"
)

var componentSections = []string{
	"custom", "core module", "core instance", "core type", "component", "instance", "alias", "type", "canon", "start",
	"import", "export", "value",
}

// Sections of components that are looked into, by number.
const (
	coreModuleSection      = 1
	componentSection       = 4
	componentImportSection = 10
	componentExportSection = 11
)

// maxComponentDepth bounds how deep components contain each other.
const maxComponentDepth = 32

// readComponent reads the sections of a component. info may be nil: then only the framing is checked.
func readComponent(r *reader, info *Info, depth int) error {
	if depth > maxComponentDepth {
		return fmt.Errorf("components are nested more than %d deep", maxComponentDepth)
	}
	for !r.done() {
		id, c, err := r.section()
		if err != nil {
			return err
		}
		if int(id) >= len(componentSections) {
			return fmt.Errorf("unknown section %d", id)
		}
		if err := readComponentSection(id, c, info, depth); err != nil {
			r.at = c.at
			return fmt.Errorf("section %q: %w", componentSections[id], err)
		}
		r.at = c.end
	}
	return nil
}

func readComponentSection(id byte, c *reader, info *Info, depth int) error {
	s := Section{Name: componentSections[id], Size: c.end - c.at}
	if id == customSection {
		name, err := c.name()
		if err != nil {
			return err
		}
		s.Name += " " + name
	}
	if info != nil {
		info.Sections = append(info.Sections, s)
	}
	switch {
	case id == coreModuleSection || id == componentSection:
		return inner(id, c, info, depth)
	case info == nil:
		return nil
	case id == componentImportSection:
		if err := c.vec(func() error { return componentImport(c, info) }); err != nil {
			return err
		}
		return c.whole()
	case id == componentExportSection:
		if err := c.vec(func() error { return componentExport(c, info) }); err != nil {
			return err
		}
		return c.whole()
	}
	return nil
}

// inner reads a module or component that a component contains.
func inner(id byte, c *reader, info *Info, depth int) error {
	kind, err := KindOf(c.data[c.at:])
	if err != nil {
		return err
	}
	c.at += 8
	if id == coreModuleSection {
		if kind != Module {
			return errors.New("a component where a module has to be")
		}
		if info != nil {
			info.Modules++
		}
		return readModule(c, nil)
	}
	if kind != Component {
		return errors.New("a module where a component has to be")
	}
	if info != nil {
		info.Components++
	}
	return readComponent(c, nil, depth+1)
}

// externName reads the name of an import or export: a tag says in which form.
func externName(r *reader) (string, error) {
	form, err := r.byte()
	if err != nil {
		return "", err
	}
	if form > 2 {
		return "", fmt.Errorf("unknown form %d of a name", form)
	}
	name, err := r.name()
	if err != nil || form != 2 {
		return name, err
	}
	return name, r.vec(func() error { // attributes, such as a version's suffix
		if _, err := r.byte(); err != nil {
			return err
		}
		_, err := r.name()
		return err
	})
}

var componentExterns = []string{"module", "func", "value", "type", "component", "instance"}

func componentImport(r *reader, info *Info) error {
	name, err := externName(r)
	if err != nil {
		return err
	}
	kind, err := externDesc(r)
	if err != nil {
		return fmt.Errorf("import %q: %w", name, err)
	}
	info.Imports = append(info.Imports, Extern{Name: name, Kind: kind})
	return nil
}

func componentExport(r *reader, info *Info) error {
	name, err := externName(r)
	if err != nil {
		return err
	}
	kind, err := sortIndex(r)
	if err != nil {
		return fmt.Errorf("export %q: %w", name, err)
	}
	typed, err := r.byte()
	if err != nil {
		return err
	}
	switch typed {
	case 0:
	case 1:
		if _, err := externDesc(r); err != nil {
			return fmt.Errorf("export %q: %w", name, err)
		}
	default:
		return fmt.Errorf("export %q has an unknown form %d", name, typed)
	}
	info.Exports = append(info.Exports, Extern{Name: name, Kind: kind})
	return nil
}

// sortIndex reads what an export stands for and gives its kind.
func sortIndex(r *reader) (string, error) {
	sort, err := r.byte()
	if err != nil {
		return "", err
	}
	if int(sort) >= len(componentExterns) {
		return "", fmt.Errorf("unknown kind %d", sort)
	}
	if sort == 0 {
		core, err := r.byte()
		if err != nil {
			return "", err
		}
		if core != 0x11 {
			return "", fmt.Errorf("unknown core kind %d", core)
		}
	}
	_, err = r.u32()
	return componentExterns[sort], err
}

// externDesc reads the type of an import or export and gives its kind.
func externDesc(r *reader) (string, error) {
	kind, err := r.byte()
	if err != nil {
		return "", err
	}
	if int(kind) >= len(componentExterns) {
		return "", fmt.Errorf("unknown kind %d", kind)
	}
	switch kind {
	case 0:
		core, err := r.byte()
		if err != nil {
			return "", err
		}
		if core != 0x11 {
			return "", fmt.Errorf("unknown core kind %d", core)
		}
		_, err = r.u32()
		return componentExterns[kind], err
	case 2:
		return componentExterns[kind], bound(r, r.s33)
	case 3:
		return componentExterns[kind], bound(r, func() error { return nil })
	}
	_, err = r.u32()
	return componentExterns[kind], err
}

// bound skips the bound of a value or type: 0 is an index, 1 what other reads.
func bound(r *reader, other func() error) error {
	b, err := r.byte()
	if err != nil {
		return err
	}
	switch b {
	case 0:
		_, err = r.u32()
		return err
	case 1:
		return other()
	}
	return fmt.Errorf("unknown bound %d", b)
}
