package engine

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/zlayer-dev/zlayer/source/lock"
)

// Policy is what is locked as a source policy of BuildKit, in JSON: other clients of
// BuildKit hold to the lock by it. An image is part of it if all platforms are locked to
// one digest, for a policy cannot tell platforms apart.
func (r *LockResult) Policy() ([]byte, error) {
	f := &lock.File{}
	for _, e := range r.Entries {
		f.Set(e)
	}
	p := &spb.Policy{Version: 1, Rules: imageRules(f)}
	for _, e := range f.Entries() {
		switch e.Kind {
		case lock.Git:
			p.Rules = append(p.Rules, gitRule(e))
		case lock.HTTP:
			p.Rules = append(p.Rules, convertRule(spb.MatchType_EXACT, e.Ref, e.Ref, map[string]string{pb.AttrHTTPChecksum: e.Value}))
		}
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing a source policy: %w", err)
	}
	return append(text, '\n'), nil
}

func convertRule(match spb.MatchType, from, to string, attrs map[string]string) *spb.Rule {
	return &spb.Rule{
		Action:   spb.PolicyAction_CONVERT,
		Selector: &spb.Selector{Identifier: from, MatchType: match},
		Updates:  &spb.Update{Identifier: to, Attrs: attrs},
	}
}

// imageRules are the rules for the images of a lock file.
func imageRules(f *lock.File) []*spb.Rule {
	var rules []*spb.Rule
	digests := oneDigest(f)
	for _, e := range f.Entries() {
		if d := digests[e.Ref]; e.Kind == lock.Image && d != "" {
			rules = append(rules, convertRule(spb.MatchType_EXACT, "docker-image://"+e.Ref, "docker-image://"+e.Ref+"@"+d, nil))
			delete(digests, e.Ref) // it is there for each platform
		}
	}
	return rules
}

// gitRule is the rule for a git reference, whatever directory of it is read.
func gitRule(e lock.Entry) *spb.Rule {
	address, name, _ := strings.Cut(e.Ref, "#")
	id := address // as llb.Git makes it
	if u, err := gitutil.ParseURL(address); err == nil {
		id = u.Host + path.Join("/", u.Path)
	}
	frag := "(?:#(:.*)?)?"
	if name != "" {
		frag = "#" + regexp.QuoteMeta(name) + "(:.*)?"
	}
	return convertRule(spb.MatchType_REGEX, "^git://"+regexp.QuoteMeta(id)+frag+"$", "git://"+strings.ReplaceAll(id, "$", "$$")+"#"+e.Value+"${1}", nil)
}
