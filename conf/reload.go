package conf

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/strict"
)

// changeable lists the keys that may change while a framegate runs. README.md and framegate.yaml document them; a test
// compares the README with this list.
var changeable = []string{
	"listeners[].max_connections", "listeners[].max_calls",
	"admin.token",
	"routes.file", "routes.reload_interval",
	"services.allow",
	"limits.max_message_bytes", "limits.max_health_watches",
	"mirrors.max_calls",
	"drain.delay", "drain.timeout", "drain.endpoint_timeout",
	"log.level", "log.format",
	"access_log.path", "access_log.sample", "access_log.errors",
}

// LoadAgain is Load for a reload. An empty file is an error, because it may be about to be written; so is a path that is no
// regular file, such as a pipe, because reading it might block for ever.
func LoadAgain(path string) (*Config, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration file %s: it is %s, want a regular file", path, info.Mode().Type())
	}
	return load(path, func(data []byte) (*Config, error) {
		var said map[string]any
		if err := yaml.Unmarshal(data, &said); err == nil && len(said) == 0 {
			return nil, errors.New("it says nothing, want a configuration")
		}
		return Parse(data)
	})
}

// Difference is a key whose value in a configuration that was read again differs from the value in force. Secrets are hidden.
type Difference struct {
	Key     string // such as listeners[0].max_calls, by the order of the configuration in force
	InForce string
	Read    string
}

// Reload returns a copy of c in which the keys that may change while a framegate runs have the values of next, which must be
// valid. changed are those of them that differ; fixed are the other keys that differ, which stay as in c until a restart.
// Listeners are matched by name. The result may be invalid, if a changed value contradicts one that stays. Reload changes
// neither c nor next.
//
// It is an error if next takes away the admin token, the routes file or a list of allowed addresses. A file that was
// truncated or is being written would do that by accident, so that only a restart may.
func (c *Config) Reload(next *Config) (result *Config, changed, fixed []Difference, err error) {
	if err := c.taken(next); err != nil {
		return nil, nil, nil, err
	}
	names, read := slices.Sorted(slices.Values(c.ListenerNames())), slices.Sorted(slices.Values(next.ListenerNames()))
	if !slices.Equal(names, read) {
		fixed = append(fixed, Difference{Key: "listeners", InForce: strings.Join(names, ", "), Read: strings.Join(read, ", ")})
	}
	next = next.withListenersOf(c)
	result = new(*c)
	result.Listeners = slices.Clone(c.Listeners)
	d := differences{note: func(key string, inForce, read reflect.Value) {
		diff := Difference{Key: key, InForce: fmt.Sprint(inForce), Read: fmt.Sprint(read)}
		if isChangeable(key) {
			changed = append(changed, diff)
		} else {
			fixed = append(fixed, diff)
		}
	}}
	d.take("", valueOf(result), valueOf(next), valueOf(c.Redacted()), valueOf(next.Redacted()))
	return result, changed, fixed, nil
}

// taken returns an error if next takes away what only a restart may take away; see Reload.
func (c *Config) taken(next *Config) error {
	var errs []error
	for _, k := range []struct {
		key  string
		gone bool
	}{
		{"admin.token", c.Admin.Token != "" && next.Admin.Token == ""},
		{"routes.file", c.Routes.File != "" && next.Routes.File == ""},
		{"services.allow", !slices.Equal(c.Services.Allow, Default().Services.Allow) && slices.Equal(next.Services.Allow, Default().Services.Allow)},
	} {
		if k.gone {
			errs = append(errs, fmt.Errorf("%s: back to its default, want a value, or a restart to take it away", k.key))
		}
	}
	return errors.Join(errs...)
}

func valueOf(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }

// withListenersOf returns a copy of c that has listeners of the same names as other, in other's order: each is c's listener
// of that name, or other's if c has none.
func (c *Config) withListenersOf(other *Config) *Config {
	r := *c
	r.Listeners = slices.Clone(other.Listeners)
	for i := range r.Listeners {
		named := func(l Listener) bool { return l.Name == r.Listeners[i].Name }
		if j := slices.IndexFunc(c.Listeners, named); j >= 0 {
			r.Listeners[i] = c.Listeners[j]
		}
	}
	return &r
}

var index = regexp.MustCompile(`\[\d+\]`)

func isChangeable(key string) bool {
	return slices.Contains(changeable, index.ReplaceAllString(key, "[]"))
}

// differences compares two configurations key by key.
type differences struct {
	note func(key string, inForce, read reflect.Value) // called for each key that differs
}

// take compares dst and src, which are at key, calls note for each key that differs, and sets it in dst if it is changeable.
// note gets the values from shown and shownSrc, which are dst and src without secrets.
func (d differences) take(key string, dst, src, shown, shownSrc reflect.Value) {
	switch {
	case dst.Kind() == reflect.Struct:
		for i := range dst.NumField() {
			below := keyBelow(key, dst.Type().Field(i))
			d.take(below, dst.Field(i), src.Field(i), shown.Field(i), shownSrc.Field(i))
		}
	case dst.Kind() == reflect.Slice && dst.Type().Elem().Kind() == reflect.Struct && dst.Len() == src.Len():
		for i := range dst.Len() {
			d.take(fmt.Sprintf("%s[%d]", key, i), dst.Index(i), src.Index(i), shown.Index(i), shownSrc.Index(i))
		}
	case !same(dst, src):
		d.note(key, shown, shownSrc)
		if isChangeable(key) {
			dst.Set(src)
		}
	}
}

// keyBelow returns the key of a field of the struct that is at key: key itself for a struct that is inline.
func keyBelow(key string, f reflect.StructField) string {
	if f.Tag.Get("yaml") == strict.Inline {
		return key
	}
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return strings.TrimPrefix(key+"."+name, ".")
}

// same reports whether two values of one type are equal. Empty and nil lists are equal, and so are empty and nil maps.
func same(a, b reflect.Value) bool {
	if k := a.Kind(); (k == reflect.Slice || k == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
