package zimage

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile/yamlfiletest"
)

const schemaFile = "../../docs/zimagefile.schema.json"

func TestSchemaIsPublished(t *testing.T) {
	golden(t, schemaFile, string(Schema()))
}

// TestSchemaAgrees validates every case with the schema. What Parse takes, the schema takes; what
// Parse refuses for its shape, the schema refuses.
func TestSchemaAgrees(t *testing.T) {
	// Refused by Parse or Convert for what no shape shows.
	beyond := map[string]bool{
		"bad-substitution": true, "base-undeclared": true, "from-later-stage": true,
		"from-unknown-stage": true, "healthcheck-too-short": true, "names-wrong": true,
		"not-ascii-flag": true, "nul": true, "os-platform-conflict": true, "run-env-equals": true, "stage-name-wrong": true, "substitution-forms": true,
		"runtime-steps": true, "runtime-windows": true, "runtime-unknown-arg": true, "stage-later-base": true, "stage-own-base": true,
		"stage-scratch": true, "stages-with-steps": true, "wasm-steps": true, "windows-nanoserver": true,
		"tags": true, "two-documents": true, "utf16": true, "windows-refused": true, "windows-run-env": true, "windows-scratch": true, "workdir-unknown": true,
	}
	checked := 0
	for _, c := range goldenCases(t) {
		value, ok := yamlfiletest.Value(c.text)
		if !ok {
			continue // not YAML, or not YAML that JSON can say
		}
		checked++
		_, _, err := c.convert()
		invalid := yamlfiletest.Validate(Schema(), value)
		switch {
		case err == nil && invalid != nil:
			t.Errorf("%s is accepted, but the schema says: %v", c.name, invalid)
		case err != nil && beyond[c.name] != (invalid == nil):
			t.Errorf("%s is refused (%v); the schema says: %v", c.name, err, invalid)
		}
	}
	if checked < 60 {
		t.Errorf("only %d cases could be checked", checked)
	}
}

func TestSchemaFileIsJSON(t *testing.T) {
	dt, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(dt) {
		t.Error("the published schema is not JSON")
	}
}
