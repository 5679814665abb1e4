/** Files of the guest, imported as text so that they are inside the compiled binary. */
declare module "*.sh" {
  const text: string;
  export default text;
}
declare module "*.service" {
  const text: string;
  export default text;
}
declare module "*.socket" {
  const text: string;
  export default text;
}
declare module "*.conf" {
  const text: string;
  export default text;
}
declare module "*.sources" {
  const text: string;
  export default text;
}
declare module "*.slice" {
  const text: string;
  export default text;
}
