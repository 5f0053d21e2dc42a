package peers

import "testing"

func TestAFixedListGivesThePodsTheirOrdinals(t *testing.T) {
	pods, err := ParseStatic("a:1/a:2,b:1/b:2")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pods.Peers(t.Context())
	if err != nil || len(all) != 2 || all[0] != (Peer{0, "a:1", "a:2"}) {
		t.Errorf("got %v, %v", all, err)
	}
	if got := pods.Peer(1); got != (Peer{1, "b:1", "b:2"}) {
		t.Errorf("the second is %v", got)
	}
	if got := pods.Peer(2); got != (Peer{Ordinal: 2}) {
		t.Errorf("a pod that is not listed is %v", got)
	}
	for _, wrong := range []string{"", "a:1", "a/b:1", "a:1/a:2,"} {
		if _, err := ParseStatic(wrong); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}
