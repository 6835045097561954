import type { Example, TokenTrie } from '../../src/batch/types.js';

interface Node {
  readonly token: number;
  readonly position: number;
  readonly children: Node[];
  /** target → summed weight. */
  readonly edges: Map<number, number>;
  index: number;
}

/** Examples as chains side by side, one root each and nothing shared: what a packing trainer computes. */
export function packChains(examples: readonly Example[]): TokenTrie {
  return layOut(examples, false);
}

/** Examples merged by common prefixes, children in order of first appearance. */
export function mergePrefixes(examples: readonly Example[]): TokenTrie {
  return layOut(examples, true);
}

/** A chain of `ids` with nothing supervised. */
export function chain(ids: ArrayLike<number>): TokenTrie {
  return packChains([{ ids: Int32Array.from(ids), labels: new Int32Array(ids.length).fill(-100), weight: 1 }]);
}

function layOut(examples: readonly Example[], share: boolean): TokenTrie {
  const roots: Node[] = [];
  const paths = examples.map((example) => insert(roots, example, share));

  const nodes: Node[] = [];
  const subtreeEnd: number[] = [];
  const visit = (node: Node) => {
    node.index = nodes.push(node) - 1;
    for (const child of node.children) visit(child);
    subtreeEnd[node.index] = nodes.length;
  };
  for (const root of roots) visit(root);

  const edges = nodes.flatMap((node) =>
    [...node.edges].map(([target, weight]) => ({ row: node.index, target, weight })),
  );
  const edgeAt = new Map(edges.map(({ row, target }, e) => [`${row} ${target}`, e]));
  return {
    tokens: Uint32Array.from(nodes, (node) => node.token),
    positions: Uint32Array.from(nodes, (node) => node.position),
    subtreeEnd: Uint32Array.from(subtreeEnd),
    edgeRow: Uint32Array.from(edges, (edge) => edge.row),
    edgeTarget: Uint32Array.from(edges, (edge) => edge.target),
    edgeWeight: Float64Array.from(edges, (edge) => edge.weight),
    nodeOf: paths.map((path) => Uint32Array.from(path, (node) => node.index)),
    edgeOf: examples.map(({ labels }, e) =>
      labels.map((label, i) => (i > 0 && label >= 0 ? edgeAt.get(`${paths[e][i - 1].index} ${label}`)! : -1)),
    ),
  };
}

function insert(roots: Node[], { ids, labels, weight }: Example, share: boolean): Node[] {
  const path: Node[] = [];
  let siblings = roots;
  for (let i = 0; i < ids.length; i++) {
    if (i > 0 && labels[i] >= 0) {
      const { edges } = path[i - 1];
      edges.set(labels[i], (edges.get(labels[i]) ?? 0) + weight);
    }
    let node = share ? siblings.find((sibling) => sibling.token === ids[i]) : undefined;
    if (!node) {
      node = { token: ids[i], position: i, children: [], edges: new Map(), index: -1 };
      siblings.push(node);
    }
    path.push(node);
    siblings = node.children;
  }
  return path;
}
