package strict

import (
	"encoding/json"

	"gopkg.in/yaml.v3"
)

// Generic returns v, which has yaml tags, as maps, lists and scalars with the keys and values of its YAML: encoded in
// JSON, it has the same keys, and a duration is 1.5s as people write it.
func Generic(v any) (any, error) {
	doc, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	var generic any
	err = yaml.Unmarshal(doc, &generic)
	return generic, err
}

// JSON returns Generic in JSON.
func JSON(v any) ([]byte, error) {
	generic, err := Generic(v)
	if err != nil {
		return nil, err
	}
	return json.Marshal(generic)
}
