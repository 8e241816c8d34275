// What a worker is told when it starts.

import { Abort } from "./failures.js";

/** A worker's deployment, input and configuration. */
export class Context {
  constructor({ deployment, topic, partition, outputs, config }) {
    /** The deployment's name. */
    this.deployment = deployment;
    /** The input topic. */
    this.topic = topic;
    /** The partition of it whose records this worker handles, counted from 0. */
    this.partition = partition;
    /** The names of the declared outputs. */
    this.outputs = outputs;
    /** The deployment's configuration: texts by their names. */
    this.config = config;
  }

  /** The output of this name. When the deployment declares none, the worker does not start. */
  output(name) {
    const index = this.outputs.indexOf(name);
    if (index >= 0) return { index };
    const declared = this.outputs.map((output) => `\`${output}\``).join(", ") || "none";
    throw new Abort(`the deployment declares no output \`${name}\` (it declares ${declared})`);
  }
}
