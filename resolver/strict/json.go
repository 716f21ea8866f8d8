package strict

import (
	"encoding/json"

	"gopkg.in/yaml.v3"
)

// Generic returns v, a value with yaml tags, as maps, lists and scalars with the keys and values of its YAML. Encoded in
// JSON it has the keys that its YAML has, and durations such as 1.5s.
func Generic(v any) (any, error) {
	doc, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	var generic any
	err = yaml.Unmarshal(doc, &generic)
	return generic, err
}

// JSON returns v, a value with yaml tags, in JSON with the keys and values of its YAML; see Generic.
func JSON(v any) ([]byte, error) {
	generic, err := Generic(v)
	if err != nil {
		return nil, err
	}
	return json.Marshal(generic)
}
