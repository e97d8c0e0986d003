// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"os"

	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// A client outside asks for the cluster IP of a Service with one endpoint, on this node.
func ExampleText() {
	rows, _ := planned(cidrs(), policies{protocol: "TCP", here: true})
	v := trace.Of(rows, packet(tcp, outside, clusterIP, port), where())
	if err := trace.Text(os.Stdout, v); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 192.0.2.200 -> 10.96.0.80:80/TCP
	// answered by the one endpoint of shop/web:http, which sees an address of this node as the client's
	//   10.244.1.5:8080  weight 1
	// because
	//   nat KUBE-SERVICES 5        the source is not in 10.244.0.0/16, and KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> to KUBE-MARK-MASQ
	//   nat KUBE-MARK-MASQ 1       every packet here -> mark 0x4000
	//   nat KUBE-SERVICES 10       KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> no more of nat
	//   routing                    10.96.0.80 is on kube-ipvs0 -> the packet is for this node
	//   filter KUBE-IPVS-FILTER 4  KUBE-CLUSTER-IP has 10.96.0.80,tcp:80 (shop/web:http) -> no more of filter
	//   IPVS                       virtual server TCP 10.96.0.80:80 (rr) with 1 real server
	//   nat KUBE-POSTROUTING 2     every packet here -> mark 0x0
	//   nat KUBE-POSTROUTING 3     the protocol is tcp -> masqueraded: the source becomes an address of this node
}
