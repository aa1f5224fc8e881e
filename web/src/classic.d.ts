declare module "*?classic" {
  const source: string;
  export default source;
}
declare module "*.css";
