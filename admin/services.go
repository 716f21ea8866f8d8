package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// defaultTTL is how long an instance stays registered after a heartbeat without a ttl.
const defaultTTL = 10 * time.Second

// serviceAnswer is a service and its instances, as this framegate knows them.
type serviceAnswer struct {
	Name      string           `json:"name"`
	Instances []instanceAnswer `json:"instances"`
}

type instanceAnswer struct {
	spec.Instance
	Refused   string     `json:"refused,omitempty"`    // why it gets no calls
	KeptUntil *time.Time `json:"kept_until,omitempty"` // set if it is no longer registered but kept until then
}

// serviceOf returns the answer about a service: its instances, marked if they are in refused (address to reason) or kept.
func serviceOf(name string, instances []spec.Instance, refused map[string]string, kept []etcdsource.KeptInstance) serviceAnswer {
	a := serviceAnswer{Name: name, Instances: make([]instanceAnswer, len(instances))}
	for i, in := range instances {
		a.Instances[i] = instanceAnswer{Instance: in, Refused: refused[in.Address]}
		for _, k := range kept {
			if k.Service == name && k.Address == in.Address {
				a.Instances[i].KeptUntil = &k.Until
			}
		}
	}
	return a
}

// servicesAPI shows the instances of services, and registers and deregisters them.
type servicesAPI struct {
	instances func() map[string][]spec.Instance
	kept      func() []etcdsource.KeptInstance
	refused   func() map[string]map[string]string
	store     func() (ServiceStore, error)
	work      *work
	log       *slog.Logger
}

// marks returns the reasons of refused instances, by service and address, and the instances that are kept.
func (api *servicesAPI) marks() (refused map[string]map[string]string, kept []etcdsource.KeptInstance) {
	if api.refused != nil {
		refused = api.refused()
	}
	if api.kept != nil {
		kept = api.kept()
	}
	return refused, kept
}

func (api *servicesAPI) list(w http.ResponseWriter, _ *http.Request) error {
	if api.instances == nil {
		return notProvided("services")
	}
	services := api.instances()
	refused, kept := api.marks()
	answer := struct {
		Services []serviceAnswer `json:"services"`
	}{Services: []serviceAnswer{}}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		answer.Services = append(answer.Services, serviceOf(name, services[name], refused[name], kept))
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (api *servicesAPI) get(w http.ResponseWriter, r *http.Request) error {
	if api.instances == nil {
		return notProvided("services")
	}
	name := r.PathValue("name")
	instances := api.instances()[name]
	if len(instances) == 0 {
		return notFound("service %s: not found, or without instances", name)
	}
	refused, kept := api.marks()
	return writeJSON(w, http.StatusOK, serviceOf(name, instances, refused[name], kept))
}

// maxHeartbeatBytes bounds the body of a heartbeat. It has room for as many tags as an instance may have.
const maxHeartbeatBytes = 64 << 10

// heartbeatDocument is the body of a heartbeat.
type heartbeatDocument struct {
	Weight int               `yaml:"weight"`
	Tags   map[string]string `yaml:"tags"`
	TTL    time.Duration     `yaml:"ttl"`
}

// heartbeatAnswer is what a heartbeat did.
type heartbeatAnswer struct {
	Service  string        `json:"service"`
	Address  string        `json:"address"`
	Outcome  match.Outcome `json:"outcome"`
	Revision int64         `json:"revision"`
	Lease    string        `json:"lease"` // in hexadecimal, as etcdctl has it
	TTL      string        `json:"ttl"`
}

func (api *servicesAPI) putInstance(w http.ResponseWriter, r *http.Request) error {
	doc := heartbeatDocument{Weight: spec.DefaultInstanceWeight, TTL: defaultTTL}
	if err := api.work.readDocument(r, func(body []byte) error {
		if len(body) > maxHeartbeatBytes {
			return fmt.Errorf("document of %d bytes, want at most %d", len(body), maxHeartbeatBytes)
		}
		return strict.Decode(body, &doc)
	}); err != nil {
		return err
	}
	service := r.PathValue("name")
	in := spec.Instance{Address: r.PathValue("address"), Weight: doc.Weight, Tags: doc.Tags}
	if err := validateHeartbeat(service, in, doc.TTL); err != nil {
		return badDocument(err)
	}
	store, err := storeOf(api.store)
	if err != nil {
		return err
	}
	ctx, cancel := etcdContext(r)
	defer cancel()
	hb, err := store.Heartbeat(ctx, service, in, doc.TTL)
	if err != nil {
		return storeProblem(err)
	}
	status := http.StatusOK
	if hb.Outcome == match.Created {
		status = http.StatusCreated
	}
	if hb.Outcome != match.Unchanged {
		api.log.Info("admin: instance registered", "service", service, "address", in.Address, "outcome", string(hb.Outcome), "from", r.RemoteAddr)
	}
	return writeJSON(w, status, heartbeatAnswer{
		Service: service, Address: in.Address, Outcome: hb.Outcome, Revision: hb.Revision,
		Lease: strconv.FormatInt(int64(hb.Lease), 16), TTL: doc.TTL.String(),
	})
}

func validateHeartbeat(service string, in spec.Instance, ttl time.Duration) error {
	var errs []error
	if err := spec.ValidServiceName(service); err != nil {
		errs = append(errs, fmt.Errorf("service: %w", err))
	}
	if err := in.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := etcdstore.ValidateInstanceTTL(ttl); err != nil {
		errs = append(errs, fmt.Errorf("ttl: %w", err))
	}
	return errors.Join(errs...)
}

func (api *servicesAPI) deleteInstance(w http.ResponseWriter, r *http.Request) error {
	store, err := storeOf(api.store)
	if err != nil {
		return err
	}
	ctx, cancel := etcdContext(r)
	defer cancel()
	service, address := r.PathValue("name"), r.PathValue("address")
	found, err := store.Deregister(ctx, service, address)
	if err != nil {
		return storeProblem(err)
	}
	if !found {
		return notFound("instance %s of service %s: not found", address, service)
	}
	api.log.Info("admin: instance deregistered", "service", service, "address", address, "from", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
