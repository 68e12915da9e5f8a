package engine

import (
	"maps"
	"testing"
)

func TestCacheCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_REGION", "here")
	for name, c := range map[string]struct {
		entry CacheEntry
		want  map[string]string
	}{
		"from the environment": {
			CacheEntry{Type: "s3", Attrs: map[string]string{"bucket": "b"}},
			map[string]string{"bucket": "b", "access_key_id": "id", "secret_access_key": "secret", "region": "here"},
		},
		"given": {
			CacheEntry{Type: "s3", Attrs: map[string]string{"access_key_id": "mine"}},
			map[string]string{"access_key_id": "mine", "region": "here"},
		},
		"other types": {
			CacheEntry{Type: "registry", Attrs: map[string]string{"ref": "r"}},
			map[string]string{"ref": "r"},
		},
	} {
		if got := withCredentials(c.entry).Attrs; !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
