// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

const (
	proxyHead = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
	ownHead   = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIPVSConfiguration\n"
	kubeadms  = "../config/proxyconfig/testdata/kubeadm.yaml"
)

// written returns a file with that text.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// starts is started for a valid command line.
func starts(t *testing.T, line string) Daemon {
	t.Helper()
	d, status, stderr := started(t, line)
	if status != ExitOK {
		t.Fatalf("%s: status %d, stderr %q", line, status, stderr)
	}
	return d
}

func TestTheCommandLineOfKubeadmWorks(t *testing.T) {
	d := starts(t, "run --config="+kubeadms+" --hostname-override=Node-1")
	want := config.Default()
	want.Hostname = "node-1"
	want.Client.Kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf"
	want.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("10.244.0.0/16")}
	want.PodCIDRs = prefixes("10.244.0.0/16")
	if diff := cmp.Diff(want, d.Config, compare()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(d.Warnings) != 2 || !strings.HasPrefix(d.Warnings[0], "mode: empty") {
		t.Errorf("warnings %q", d.Warnings)
	}
	text, err := os.ReadFile(kubeadms)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]File{{Path: kubeadms, Text: text}}, d.Files); diff != "" || d.Manifests != "" || d.InitOnly {
		t.Errorf("got %+v\n%s", d, diff)
	}
	if !strings.Contains(string(d.Configz), `"hostnameOverride":"Node-1"`) {
		t.Errorf("configz is %s", d.Configz)
	}
}

func TestWhatWins(t *testing.T) {
	proxy := written(t, proxyHead+"mode: ipvs\nhostnameOverride: file\nipvs: {scheduler: lc}\nlogging: {verbosity: 2, format: json}\n---\n"+
		ownHead+"drainTimeout: 1m\nanswerPing: true\nremoteHairpins: true\n")
	own := written(t, ownHead+"answerPing: false\nlocalhostNodePorts: true\n")
	d := starts(t, "run --config "+proxy+" --settings "+own+
		" --hostname-override= -v=5 --ipvs-scheduler=sh --masquerade-all --drain-timeout=2m --localhost-nodeports=false"+
		" --config-sync-period=1m --boot-id-file=x --healthz-port=0 --master=https://192.0.2.1 --vmodule=a=1")
	want := config.Default()
	want.Hostname, want.Scheduler, want.Client.Master = "file", "lc", "https://192.0.2.1"
	want.Log = config.Log{Verbosity: 5, JSON: true}
	want.DrainTimeout, want.RemoteHairpins = 2*time.Minute, true
	if diff := cmp.Diff(want, d.Config, compare()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	const ignored = "without effect in kube-ipvs: --vmodule, --boot-id-file, --config-sync-period (there is --config), " +
		"--healthz-port (there is --config), --ipvs-scheduler (there is --config), --masquerade-all (there is --config)"
	if !slices.Contains(d.Warnings, ignored) {
		t.Errorf("warnings %q", d.Warnings)
	}
}

func TestOneWarningNamesAllThatHasNoEffect(t *testing.T) {
	d := starts(t, "run --iptables-sync-period=1m --config-sync-period=1m --machine-id-file=x --nodeport-addresses=primary"+
		" --feature-gates=KubeProxyIPVS=false,AllowServiceExternalIPs=true --show-hidden-metrics-for-version=1.35 --pod-bridge-interface=cni0"+
		" --log-flush-frequency=1s --log-json-split-stream --log-text-info-buffer-size=1Ki --iptables-localhost-nodeports=false")
	want := []string{"without effect in kube-ipvs: featureGates.KubeProxyIPVS, --config-sync-period, --pod-bridge-interface, " +
		"--iptables-localhost-nodeports, --iptables-sync-period, --log-flush-frequency, --log-json-split-stream, " +
		"--log-text-info-buffer-size, --show-hidden-metrics-for-version, --machine-id-file"}
	if diff := cmp.Diff(want, d.Warnings); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOldFlagsForPortsAreDeprecated(t *testing.T) {
	d := starts(t, "run --nodeport-addresses=primary --metrics-port=0")
	want := []string{"--metrics-port is deprecated: use --metrics-bind-address"}
	if diff := cmp.Diff(want, d.Warnings); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Since Kubernetes 1.37 kubeadm writes iptables where it wrote no mode.
func TestAnotherModeIsRefusedUnlessTheCommandLineSaysSo(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		file := written(t, proxyHead+"mode: "+mode+"\nnodePortAddresses: [primary]\n")
		_, status, stderr := started(t, "run --config "+file)
		if status != ExitFailed || !strings.Contains(stderr, `mode: "`+mode+`" is not what kube-ipvs does: set it to ipvs, or start with --proxy-mode=ipvs`) {
			t.Errorf("status %d, stderr %q", status, stderr)
		}
		d := starts(t, "run --proxy-mode=ipvs --config "+file)
		want := []string{"mode: " + mode + ", which --proxy-mode=ipvs overrules: kube-ipvs is ipvs always"}
		if diff := cmp.Diff(want, d.Warnings); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	for _, line := range []string{"run --nodeport-addresses=primary --proxy-mode=ipvs", "run --proxy-mode=ipvs --config " +
		written(t, proxyHead+"mode: ipvs\nnodePortAddresses: [primary]\n")} {
		if d := starts(t, line); len(d.Warnings) > 0 {
			t.Errorf("%s warns of %q", line, d.Warnings)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	good, bad := written(t, proxyHead+"ipvs: {syncPeriod: 1}\n"), written(t, ownHead+"drainTimout: 1m\n")
	for line, want := range map[string]string{
		"--config /no/such/file":           "kube-ipvs: reading --config: open /no/such/file: no such file",
		"--config " + good:                 "kube-ipvs: reading --config " + good + ": ipvs.syncPeriod: a number, want a string",
		"--settings " + bad:                "kube-ipvs: reading --settings " + bad + ": drainTimout: unknown field",
		"--settings " + kubeadms:           "kube-ipvs: reading --settings " + kubeadms + ": kind KubeProxyConfiguration",
		"--config " + bad + " --init-only": "kube-ipvs: reading --config " + bad + ": drainTimout",
	} {
		if _, status, stderr := started(t, "run "+line); status != ExitFailed || !strings.HasPrefix(stderr, want) {
			t.Errorf("%s: status %d, stderr %q, want %q", line, status, stderr, want)
		}
	}
}

func TestReloadReadsTheFilesAgain(t *testing.T) {
	file := written(t, proxyHead+"mode: ipvs\nipvs: {scheduler: lc}\n")
	d := starts(t, "run --drain-timeout=1m --manifests DIR --init-only --config "+file)
	for _, scheduler := range []string{"sh", "mh"} {
		if err := os.WriteFile(file, []byte(proxyHead+"mode: ipvs\nipvs: {scheduler: "+scheduler+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		next, err := d.Reload()
		if err != nil {
			t.Fatal(err)
		}
		want := d
		want.Config.Scheduler = scheduler
		ignore := cmpopts.IgnoreFields(Daemon{}, "Reload", "Files", "Configz")
		if diff := cmp.Diff(want, next, compare(), ignore); diff != "" || !strings.Contains(string(next.Files[0].Text), scheduler) {
			t.Errorf("-want +got:\n%s", diff)
		}
		d = next
	}
	if err := os.WriteFile(file, []byte("mode: ["), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(); err == nil {
		t.Error("a broken file is a configuration")
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for _, s := range append(settings(), setting{flags: "--config " + kubeadms}, setting{flags: "--config ../config/proxyconfig/testdata/every-field.yaml"}) {
		want := starts(t, "run "+s.flags)
		file := filepath.Join(t.TempDir(), "effective")
		w := newWorld()
		if status, stdout, stderr := w.run(t, "run --write-config-to "+file+" "+s.flags); status != ExitOK || stdout != "" {
			t.Fatalf("%s: status %d, stdout %q, stderr %q", s.flags, status, stdout, stderr)
		}
		got := starts(t, "run --config "+file)
		if diff := cmp.Diff(want.Config, got.Config, compare()); diff != "" {
			t.Errorf("%s (-meant +read back):\n%s", s.flags, diff)
		}
	}
}

func TestVersionIsAFlagToo(t *testing.T) {
	w := newWorld()
	_, want, _ := w.run(t, "version")
	for _, line := range []string{"--version", "run --version", "run --version=raw", "run --version=true --config /no/such/file"} {
		if status, stdout, stderr := w.run(t, line); status != ExitOK || stdout != want || stderr != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
	starts(t, "run --version=false")
}

func TestCleanupIsAFlagToo(t *testing.T) {
	w := newWorld()
	var got []Cleanup
	w.env.Cleanup = func(_ context.Context, c Cleanup) (Cleaned, error) {
		got = append(got, c)
		return Cleaned{Changes: []Change{{"removed", "sets", "KUBE-CLUSTER-IP"}}}, nil
	}
	status, stdout, stderr := w.run(t, "run --cleanup -v=2 --ipvs-exclude-cidrs=198.51.100.0/24")
	want := []Cleanup{{Exclude: prefixes("198.51.100.0/24")}}
	if diff := cmp.Diff(want, got, compare()); status != ExitOK || stderr != "" || !strings.Contains(stdout, "KUBE-CLUSTER-IP") || diff != "" {
		t.Errorf("status %d, stdout %q, stderr %q\n%s", status, stdout, stderr, diff)
	}
}

func TestPlanTakesTheDaemonsFiles(t *testing.T) {
	file := written(t, proxyHead+"ipvs: {scheduler: lc}\nportRange: 1-2\n")
	w := newWorld()
	w.env.Stdin = strings.NewReader("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n")
	status, stdout, stderr := w.run(t, "plan -f - --config "+file)
	if status != ExitOK || !strings.Contains(stdout, " = lc") || !strings.Contains(stderr, "without effect in kube-ipvs: portRange") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}
