/** Passwords, keys and tokens that the deployment is granted. */
export const secrets: {
  /** The value of a secret as it is now: ask when it is needed. null when there is none of this name. */
  get(name: string): string | null;
};
