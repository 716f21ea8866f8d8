package conf

import "gopkg.in/yaml.v3"

// UnmarshalYAML implements yaml.Unmarshaler. It decodes an entry of "listeners" over DefaultListener. Unknown keys are not
// its concern: strict.Decode has refused them before.
func (l *Listener) UnmarshalYAML(n *yaml.Node) error {
	type plain Listener
	p := plain(DefaultListener())
	if err := n.Decode(&p); err != nil {
		return err
	}
	*l = Listener(p)
	return nil
}
