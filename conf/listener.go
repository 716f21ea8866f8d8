package conf

import "gopkg.in/yaml.v3"

// UnmarshalYAML lets an entry leave out what should have its default. It must follow strict.Decode, which has checked
// the node.
func (l *Listener) UnmarshalYAML(n *yaml.Node) error {
	type plain Listener
	p := plain(DefaultListener())
	if err := n.Decode(&p); err != nil {
		return err
	}
	*l = Listener(p)
	return nil
}
