package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/plain"
)

// schemaAnswer is the state of one schema in etcd.
type schemaAnswer struct {
	Name     string   `json:"name"`
	Methods  []string `json:"methods"`            // of the version in force
	Revision int64    `json:"revision,omitempty"` // etcd's, of the last good version
	Latest   int64    `json:"latest_revision,omitempty"`
	Error    string   `json:"error,omitempty"` // what is wrong with the last version
}

// schemasAPI shows the schemas in etcd.
type schemasAPI struct {
	schemas func() []resolver.SchemaStatus
}

// list answers from memory.
func (api *schemasAPI) list(w http.ResponseWriter, _ *http.Request) error {
	if api.schemas == nil {
		return notProvided("schemas")
	}
	answer := struct {
		Schemas []schemaAnswer `json:"schemas"`
	}{Schemas: []schemaAnswer{}}
	for _, st := range api.schemas() {
		a := schemaAnswer{Name: st.Name, Methods: []string{}, Revision: st.Revision, Latest: st.Latest}
		if st.Schema != nil {
			a.Methods = append(a.Methods, st.Schema.Methods()...)
		}
		if st.Err != nil {
			a.Error = plain.WithoutPasswords(st.Err.Error())
		}
		answer.Schemas = append(answer.Schemas, a)
	}
	slices.SortFunc(answer.Schemas, func(a, b schemaAnswer) int { return strings.Compare(a.Name, b.Name) })
	return writeJSON(w, http.StatusOK, answer)
}
