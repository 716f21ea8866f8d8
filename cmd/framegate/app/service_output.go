package app

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// instanceChange is the output of a command that changed an instance.
type instanceChange struct {
	Service  string `yaml:"service"`
	Address  string `yaml:"address"`
	Outcome  string `yaml:"outcome"`
	Was      int    `yaml:"was,omitempty"`    // the weight before, if the command changed that; at least 1
	Weight   int    `yaml:"weight,omitempty"` // and after
	Revision int64  `yaml:"revision,omitempty"`
}

func writeInstanceChange(w io.Writer, out *outputFlag, c instanceChange) error {
	if out.format != outputTable {
		return out.write(w, c)
	}
	weights := ""
	if c.Weight > 0 {
		weights = fmt.Sprintf(", weight %d -> %d", c.Was, c.Weight)
	}
	_, err := fmt.Fprintf(w, "service %s: %s %s%s%s\n", plain.Text(c.Service), plain.Text(c.Address), c.Outcome, weights, inRevision(c.Revision))
	return err
}

// listedService is a service in the output of -o json and yaml.
type listedService struct {
	Name      string           `yaml:"name"`
	Instances []listedInstance `yaml:"instances"`
}

type listedInstance struct {
	spec.Instance `yaml:",inline"`
	TTL           time.Duration `yaml:"ttl,omitempty"` // what its lease has left
	Revision      int64         `yaml:"revision"`
}

// writeServices prints services and their instances, with the time that the instances' leases have left.
func writeServices(w io.Writer, out *outputFlag, services []etcdstore.ServiceInstances) error {
	if out.format == outputTable {
		return writeServiceTable(w, services)
	}
	list := struct {
		Services []listedService `yaml:"services"`
	}{Services: []listedService{}}
	for _, s := range services {
		listed := listedService{Name: s.Service}
		for _, in := range s.Instances {
			listed.Instances = append(listed.Instances, listedInstance{Instance: in.Instance, TTL: in.TTL, Revision: in.Revision})
		}
		list.Services = append(list.Services, listed)
	}
	return out.write(w, list)
}

func writeServiceTable(w io.Writer, services []etcdstore.ServiceInstances) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tADDRESS\tWEIGHT\tTTL\tTAGS")
	for _, s := range services {
		for _, in := range s.Instances {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", plain.Text(s.Service), plain.Text(in.Address), in.Weight, shownTTL(in), shownTags(in.Tags))
		}
	}
	return t.Flush()
}

// shownTTL returns what the lease of an instance has left, or "none" for an instance without a lease, which stays until it
// is removed.
func shownTTL(in etcdstore.RegisteredInstance) string {
	if in.Lease == 0 {
		return "none"
	}
	return in.TTL.String()
}

func shownTags(tags map[string]string) string {
	if len(tags) == 0 {
		return "-"
	}
	shown := make([]string, 0, len(tags))
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		shown = append(shown, plain.Text(k+"="+tags[k]))
	}
	return strings.Join(shown, ",")
}
